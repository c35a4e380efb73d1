locals {
  buckets = { in = "${var.project}-${var.name}-in", out = "${var.project}-${var.name}-out" }
}

resource "google_storage_bucket" "images" {
  for_each                    = local.buckets
  name                        = each.value
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  versioning {
    enabled = true
  }
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 2
    }
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.old_version_days
      with_state                 = "ARCHIVED"
    }
  }
  depends_on = [google_project_service.apis]
}

resource "google_storage_notification" "uploads" {
  bucket             = google_storage_bucket.images["in"].name
  topic              = google_pubsub_topic.uploads.id
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = var.input_prefix == "" ? null : var.input_prefix
  payload_format     = "JSON_API_V1"
  depends_on         = [google_pubsub_topic_iam_member.storage_tells]
}

resource "google_storage_bucket_iam_member" "reads_inputs" {
  bucket = google_storage_bucket.images["in"].name
  role   = "roles/storage.objectViewer"
  member = google_service_account.accounts["events"].member
}

# objectUser, not objectCreator: an upload that comes again under its name overwrites its result.
resource "google_storage_bucket_iam_member" "writes_results" {
  bucket = google_storage_bucket.images["out"].name
  role   = "roles/storage.objectUser"
  member = google_service_account.accounts["events"].member
}
