resource "google_pubsub_topic" "uploads" {
  name = "${var.name}-uploads"
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
  depends_on = [google_project_service.apis]
}

resource "google_pubsub_topic_iam_member" "storage_tells" {
  topic  = google_pubsub_topic.uploads.id
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.this.member
}

resource "google_pubsub_subscription" "uploads" {
  name  = "${var.name}-uploads"
  topic = google_pubsub_topic.uploads.id
  # Longer than a request may take: what runs is not sent again meanwhile.
  ack_deadline_seconds       = min(600, var.timeout_s + 15)
  message_retention_duration = "345600s"
  expiration_policy {
    ttl = ""
  }
  push_config {
    push_endpoint = "${google_cloud_run_v2_service.events.uri}/v1/events"
    oidc_token {
      service_account_email = google_service_account.accounts["push"].email
      audience              = google_cloud_run_v2_service.events.uri
    }
  }
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead.id
    max_delivery_attempts = 5
  }
  depends_on = [google_cloud_run_v2_service_iam_member.push, google_pubsub_topic_iam_member.agent_forwards]
}

resource "google_pubsub_topic" "dead" {
  name = "${var.name}-dead"
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
  depends_on = [google_project_service.apis]
}

# Without a subscription a topic keeps nothing.
resource "google_pubsub_subscription" "dead" {
  name                       = "${var.name}-dead"
  topic                      = google_pubsub_topic.dead.id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"
  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "agent_forwards" {
  topic  = google_pubsub_topic.dead.id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent_takes" {
  subscription = google_pubsub_subscription.uploads.id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_monitoring_notification_channel" "mail" {
  count        = var.alarm_email == "" ? 0 : 1
  display_name = "${var.name}: mail"
  type         = "email"
  labels       = { email_address = var.alarm_email }
}

resource "google_monitoring_alert_policy" "dead" {
  display_name          = "${var.name}: uploads that failed for good"
  combiner              = "OR"
  notification_channels = google_monitoring_notification_channel.mail[*].id
  conditions {
    display_name = "dead letters"
    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.dead.name}\" AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }
}
