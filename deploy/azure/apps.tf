resource "azurerm_log_analytics_workspace" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = var.log_days
}

resource "azurerm_container_app_environment" "this" {
  name                       = var.name
  resource_group_name        = azurerm_resource_group.this.name
  location                   = azurerm_resource_group.this.location
  logs_destination           = "log-analytics"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id
}

locals {
  account = azurerm_storage_account.this.name
  stores  = { for name in ["input", "output"] : name => { uri = "az://${name}", account = local.account } }
  # Of service and workers alike.
  settings = {
    PIXELMILL_QUEUE_URL     = "azure://${local.account}.queue.core.windows.net/${var.name}"
    PIXELMILL_STORE         = "az://pixelmill"
    PIXELMILL_STORE_OPTIONS = jsonencode({ account = local.account })
    PIXELMILL_STORES        = jsonencode(local.stores)
    # Which of the container's identities the SDKs are to take.
    AZURE_CLIENT_ID = azurerm_user_assigned_identity.pixelmill.client_id
  }
  rules = <<-EOT
    [[sources]]
    name = "uploads"
    kind = "azure-queue"
    queue = "${azurerm_storage_queue.uploads.name}"
    account = "https://${local.account}.queue.core.windows.net"

    [[rules]]
    name = "uploads"
    watch = ${jsonencode("az://input/${var.input_prefix}")}
    pipeline = ${jsonencode(var.pipeline)}
    output = ${jsonencode("az://output/${var.output_name}")}
  EOT
}

# One replica: several would need Redis, by which they tell each other what happened.
resource "azurerm_container_app" "service" {
  name                         = "${var.name}-service"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  revision_mode                = "Single"
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.pixelmill.id]
  }
  dynamic "registry" {
    for_each = var.registry_server == "" ? [] : [var.registry_server]
    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.pixelmill.id
    }
  }
  secret {
    name  = "database-url"
    value = var.database_url
  }
  secret {
    name  = "rules"
    value = local.rules
  }
  ingress {
    external_enabled           = true
    allow_insecure_connections = false
    target_port                = 8080
    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
    dynamic "ip_security_restriction" {
      for_each = var.reachable_from
      content {
        name             = "from-${ip_security_restriction.key}"
        action           = "Allow"
        ip_address_range = ip_security_restriction.value
      }
    }
  }
  template {
    min_replicas                     = 1
    max_replicas                     = 1
    termination_grace_period_seconds = 60
    volume {
      name         = "rules"
      storage_type = "Secret"
    }
    container {
      name   = "pixelmill"
      image  = var.image
      args   = ["serve", "--host", "0.0.0.0"]
      cpu    = 1
      memory = "2Gi"
      dynamic "env" {
        for_each = merge(local.settings, {
          PIXELMILL_LOCAL_WORK = "false"
          PIXELMILL_TRIGGERS   = "/etc/pixelmill/rules"
        })
        content {
          name  = env.key
          value = env.value
        }
      }
      env {
        name        = "PIXELMILL_DATABASE_URL"
        secret_name = "database-url"
      }
      volume_mounts {
        name = "rules"
        path = "/etc/pixelmill"
      }
      startup_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/healthz"
        interval_seconds        = 5
        failure_count_threshold = 30
      }
      liveness_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/healthz"
        interval_seconds        = 15
        timeout                 = 5
        failure_count_threshold = 3
      }
      readiness_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/readyz"
        interval_seconds        = 10
        timeout                 = 6
        failure_count_threshold = 3
      }
    }
  }
  depends_on = [azurerm_role_assignment.pixelmill, azurerm_role_assignment.pulls]
}

resource "azurerm_container_app" "worker" {
  name                         = "${var.name}-worker"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  revision_mode                = "Single"
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.pixelmill.id]
  }
  dynamic "registry" {
    for_each = var.registry_server == "" ? [] : [var.registry_server]
    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.pixelmill.id
    }
  }
  template {
    min_replicas                     = 0
    max_replicas                     = var.max_workers
    polling_interval_in_seconds      = 15
    cooldown_period_in_seconds       = 300
    termination_grace_period_seconds = 75
    container {
      name   = "pixelmill"
      image  = var.image
      args   = ["worker", "--gate", "auto"]
      cpu    = 2
      memory = "4Gi"
      dynamic "env" {
        for_each = local.settings
        content {
          name  = env.key
          value = env.value
        }
      }
    }
    # Messages a worker. The service releases 1,000 at a time at most, the rest waits in the database.
    dynamic "custom_scale_rule" {
      for_each = { interactive = "4", normal = "20", batch = "50" }
      content {
        name             = custom_scale_rule.key
        custom_rule_type = "azure-queue"
        identity_id      = azurerm_user_assigned_identity.pixelmill.id
        metadata = {
          accountName = local.account
          queueName   = "${var.name}-${custom_scale_rule.key}"
          queueLength = custom_scale_rule.value
        }
      }
    }
  }
  depends_on = [azurerm_role_assignment.pixelmill, azurerm_role_assignment.pulls]
}

# The overflow container, for a hub anywhere (docs/overflow.md).
resource "azurerm_container_app" "overflow" {
  name                         = "${var.name}-overflow"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  revision_mode                = "Single"
  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.overflow.id]
  }
  dynamic "registry" {
    for_each = var.registry_server == "" ? [] : [var.registry_server]
    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.overflow.id
    }
  }
  secret {
    name  = "token"
    value = var.overflow_token
  }
  ingress {
    external_enabled           = true
    allow_insecure_connections = false
    target_port                = 8080
    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }
  template {
    min_replicas                     = 0
    max_replicas                     = var.max_overflow
    termination_grace_period_seconds = 60
    container {
      name   = "pixelmill"
      image  = var.image
      args   = ["node", "--host", "0.0.0.0"]
      cpu    = 2
      memory = "4Gi"
      env {
        name        = "PIXELMILL_TOKEN"
        secret_name = "token"
      }
      env {
        name  = "PIXELMILL_LINK_HOSTS"
        value = "${local.account}.blob.core.windows.net"
      }
      startup_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/readyz"
        interval_seconds        = 2
        failure_count_threshold = 30
      }
      liveness_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/healthz"
        interval_seconds        = 15
        timeout                 = 5
        failure_count_threshold = 3
      }
    }
    # As many requests a replica as it has cores.
    http_scale_rule {
      name                = "requests"
      concurrent_requests = "2"
    }
  }
  depends_on = [azurerm_role_assignment.pulls]
}
