locals {
  buckets = { in = aws_s3_bucket.input, out = aws_s3_bucket.output }
  suffix  = "${data.aws_caller_identity.this.account_id}-${var.region}"
}

resource "aws_s3_bucket" "input" {
  bucket = "${var.name}-in-${local.suffix}"
}

resource "aws_s3_bucket" "output" {
  bucket = "${var.name}-out-${local.suffix}"
}

resource "aws_s3_bucket_public_access_block" "closed" {
  for_each                = local.buckets
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "owned" {
  for_each = local.buckets
  bucket   = each.value.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "encrypted" {
  for_each = local.buckets
  bucket   = each.value.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_versioning" "kept" {
  for_each = local.buckets
  bucket   = each.value.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "tidy" {
  for_each = local.buckets
  bucket   = each.value.id
  rule {
    id     = "parts"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
  rule {
    id     = "versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.old_version_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.kept]
}

data "aws_iam_policy_document" "tls" {
  for_each = local.buckets
  statement {
    sid       = "OnlyByTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "tls" {
  for_each   = local.buckets
  bucket     = each.value.id
  policy     = data.aws_iam_policy_document.tls[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.closed]
}

resource "aws_s3_bucket_notification" "uploads" {
  bucket = aws_s3_bucket.input.id
  queue {
    queue_arn     = aws_sqs_queue.events.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = var.input_prefix
  }
  # S3 asks whether it may send before it takes the setting.
  depends_on = [aws_sqs_queue_policy.bucket_tells]
}
