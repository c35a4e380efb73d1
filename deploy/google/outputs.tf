output "input_bucket" {
  description = "Upload here."
  value       = google_storage_bucket.images["in"].url
}

output "output_bucket" {
  description = "Results appear here."
  value       = google_storage_bucket.images["out"].url
}

output "overflow_url" {
  description = "The url of the [[overflow]] target, with auth = \"google\"."
  value       = google_cloud_run_v2_service.overflow.uri
}

output "hub_account" {
  description = "The service account that may call it."
  value       = local.hub
}

output "dead_subscription" {
  description = "Events that failed five times."
  value       = google_pubsub_subscription.dead.id
}
