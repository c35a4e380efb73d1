data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name               = "${var.name}-function"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "function" {
  statement {
    sid       = "ReadInputs"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.input.arn}/${var.input_prefix}*"]
  }
  # By it S3 says "not there" for an object that was deleted before its turn, and not "forbidden", which would be tried again
  # and end as a dead letter. Of the whole bucket: reading an object names no prefix.
  statement {
    sid       = "TellAbsentFromForbidden"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.input.arn]
  }
  statement {
    sid       = "WriteResults"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.output.arn}/*"]
  }
  statement {
    sid       = "TakeEvents"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    resources = [aws_sqs_queue.events.arn]
  }
  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:*"]
  }
}

resource "aws_iam_role_policy" "function" {
  name   = "images"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_days
}

resource "aws_lambda_function" "images" {
  function_name                  = var.name
  description                    = "Runs a Pixelmill pipeline over uploaded images"
  package_type                   = "Image"
  image_uri                      = var.image_uri
  architectures                  = [var.architecture]
  role                           = aws_iam_role.function.arn
  memory_size                    = var.memory_mib
  timeout                        = var.timeout_s
  reserved_concurrent_executions = var.reserved_concurrency
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.function.name
  }
  environment {
    variables = merge(
      { PIPELINE = var.pipeline, OUTPUT_BUCKET = aws_s3_bucket.output.id },
      var.output_name == "" ? {} : { OUTPUT_NAME = var.output_name },
    )
  }
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_lambda_event_source_mapping" "events" {
  function_name    = aws_lambda_function.images.arn
  event_source_arn = aws_sqs_queue.events.arn
  batch_size       = 10
  # Only the messages that failed come again, not their whole batch.
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = var.concurrency
  }
}

# For the identity of a hub whose overflow calls the function (docs/overflow.md).
data "aws_iam_policy_document" "overflow" {
  statement {
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.images.arn]
  }
}

resource "aws_iam_policy" "overflow" {
  name        = "${var.name}-overflow"
  description = "May call the Pixelmill function directly, as overflow does"
  policy      = data.aws_iam_policy_document.overflow.json
}
