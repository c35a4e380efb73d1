# Not encrypted at rest: CloudWatch may not publish under Amazon's own key, and an alarm holds names and numbers alone.
resource "aws_sns_topic" "alarms" {
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_subscription" "mail" {
  count     = var.alarm_email == "" ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

locals {
  alarms = {
    dead = {
      description = "Objects that failed five times; see the dead-letter queue and the function's log."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead.name }
      statistic   = "Maximum"
      period      = 60
      times       = 1
      above       = 0
    }
    age = {
      description = "Objects wait too long; raise concurrency, or look for throttles."
      namespace   = "AWS/SQS"
      metric      = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = aws_sqs_queue.events.name }
      statistic   = "Maximum"
      period      = 60
      times       = 5
      above       = var.alarm_age_s
    }
    errors = {
      description = "Invocations that crashed or ran into their limit of time or memory."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = aws_lambda_function.images.function_name }
      statistic   = "Sum"
      period      = 300
      times       = 1
      above       = 0
    }
    throttles = {
      description = "Invocations that were refused; reserved_concurrency, or the account's quota, is too small."
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = { FunctionName = aws_lambda_function.images.function_name }
      statistic   = "Sum"
      period      = 300
      times       = 3
      above       = 0
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "alarms" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.times
  threshold           = each.value.above
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
}
