output "input_bucket" {
  description = "Upload here."
  value       = aws_s3_bucket.input.id
}

output "output_bucket" {
  description = "Results appear here."
  value       = aws_s3_bucket.output.id
}

output "function_name" {
  description = "For direct calls, and for an [[overflow]] target."
  value       = aws_lambda_function.images.function_name
}

output "dead_letters_url" {
  description = "Events that failed five times."
  value       = aws_sqs_queue.dead.id
}

output "overflow_policy_arn" {
  description = "Attach it to the hub's identity."
  value       = aws_iam_policy.overflow.arn
}
