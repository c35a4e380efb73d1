resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue" "events" {
  name                      = "${var.name}-events"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 345600
  # Six times the function's limit, as Amazon's guide to Lambda with SQS asks: a batch that was throttled is not taken for
  # one that failed.
  visibility_timeout_seconds = 6 * var.timeout_s
  receive_wait_time_seconds  = 20
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    # Five: a batch that is throttled, as where direct calls have taken the concurrency, was received too.
    maxReceiveCount = 5
  })
}

data "aws_iam_policy_document" "bucket_tells" {
  statement {
    sid       = "TheBucketTells"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.events.arn]
    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.this.account_id]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [aws_s3_bucket.input.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "bucket_tells" {
  queue_url = aws_sqs_queue.events.id
  policy    = data.aws_iam_policy_document.bucket_tells.json
}
