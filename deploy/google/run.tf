# The overflow service: the hub sends it tasks that its own machines can't take (docs/overflow.md). It has no rights: images
# come and go in requests, or by the links that the hub makes.
resource "google_cloud_run_v2_service" "overflow" {
  name                = "${var.name}-overflow"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  deletion_protection = false
  template {
    service_account                  = google_service_account.accounts["overflow"].email
    timeout                          = "${var.timeout_s}s"
    max_instance_request_concurrency = var.cpu
    scaling {
      min_instance_count = 0
      max_instance_count = var.max_instances
    }
    containers {
      image = var.image
      # Cloud Run asks for the hub's identity, before a request comes here.
      args = ["node", "--insecure"]
      ports {
        container_port = 8080
      }
      resources {
        limits   = { cpu = tostring(var.cpu), memory = var.memory }
        cpu_idle = true
      }
      env {
        name  = "PIXELMILL_LINK_HOSTS"
        value = "storage.googleapis.com"
      }
      startup_probe {
        period_seconds    = 2
        failure_threshold = 30
        http_get {
          path = "/readyz"
        }
      }
      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/healthz"
        }
      }
    }
  }
  depends_on = [google_project_service.apis]
}

resource "google_cloud_run_v2_service_iam_member" "hub" {
  name     = google_cloud_run_v2_service.overflow.name
  location = google_cloud_run_v2_service.overflow.location
  role     = "roles/run.invoker"
  member   = "serviceAccount:${local.hub}"
}

# The service that works on uploads: a function in the form of a container.
resource "google_cloud_run_v2_service" "events" {
  name     = "${var.name}-events"
  location = var.region
  # Pub/Sub of the same project counts as inside.
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = false
  template {
    service_account                  = google_service_account.accounts["events"].email
    timeout                          = "${var.timeout_s}s"
    max_instance_request_concurrency = var.cpu
    scaling {
      min_instance_count = 0
      max_instance_count = var.max_event_instances
    }
    containers {
      image = var.image
      # Cloud Run asks for Pub/Sub's identity, before a request comes here.
      args = ["node", "--insecure"]
      ports {
        container_port = 8080
      }
      resources {
        limits   = { cpu = tostring(var.cpu), memory = var.memory }
        cpu_idle = true
      }
      dynamic "env" {
        for_each = merge(
          { PIPELINE = var.pipeline, OUTPUT_BUCKET = "gs://${google_storage_bucket.images["out"].name}" },
          var.output_name == "" ? {} : { OUTPUT_NAME = var.output_name },
        )
        content {
          name  = env.key
          value = env.value
        }
      }
      startup_probe {
        period_seconds    = 2
        failure_threshold = 30
        http_get {
          path = "/readyz"
        }
      }
      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/healthz"
        }
      }
    }
  }
  depends_on = [google_storage_bucket_iam_member.reads_inputs, google_storage_bucket_iam_member.writes_results]
}

resource "google_cloud_run_v2_service_iam_member" "push" {
  name     = google_cloud_run_v2_service.events.name
  location = google_cloud_run_v2_service.events.location
  role     = "roles/run.invoker"
  member   = google_service_account.accounts["push"].member
}
