resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.location
}

locals {
  # Names of storage accounts are unique in the world.
  suffix = substr(sha256("${var.subscription_id}/${var.name}"), 0, 8)
}

# Without keys: whoever reads or writes has a role.
resource "azurerm_storage_account" "this" {
  name                            = "${var.name}${local.suffix}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = azurerm_resource_group.this.location
  account_tier                    = "Standard"
  account_replication_type        = "ZRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  shared_access_key_enabled       = false
  default_to_oauth_authentication = true
  allow_nested_items_to_be_public = false
  local_user_enabled              = false
  blob_properties {
    delete_retention_policy {
      days = var.deleted_days
    }
    container_delete_retention_policy {
      days = var.deleted_days
    }
  }
}

# input: uploads; output: results of the rule; pixelmill: the service's own store; dead: events that could not be delivered.
resource "azurerm_storage_container" "containers" {
  for_each              = toset(["input", "output", "pixelmill", "dead"])
  name                  = each.key
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# Where Event Grid tells of uploads. The queues of the engine are made by the service.
resource "azurerm_storage_queue" "uploads" {
  name               = "uploads"
  storage_account_id = azurerm_storage_account.this.id
}
