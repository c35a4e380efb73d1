# One identity for service and workers, which share store and queues; none of them has a key.
resource "azurerm_user_assigned_identity" "pixelmill" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

# The overflow container works on what it is sent, and has no rights but to its image.
resource "azurerm_user_assigned_identity" "overflow" {
  name                = "${var.name}-overflow"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

locals {
  roles = {
    reads_inputs   = { scope = azurerm_storage_container.containers["input"].id, role = "Storage Blob Data Reader" }
    writes_results = { scope = azurerm_storage_container.containers["output"].id, role = "Storage Blob Data Contributor" }
    keeps_objects  = { scope = azurerm_storage_container.containers["pixelmill"].id, role = "Storage Blob Data Contributor" }
    # Links to blobs are signed with a key that the account gives to an identity.
    signs_links = { scope = azurerm_storage_account.this.id, role = "Storage Blob Delegator" }
    # The engine makes its queues itself, so this one is of the account.
    queues = { scope = azurerm_storage_account.this.id, role = "Storage Queue Data Contributor" }
  }
  pulls = var.registry_id == "" ? {} : {
    pixelmill = azurerm_user_assigned_identity.pixelmill.principal_id
    overflow  = azurerm_user_assigned_identity.overflow.principal_id
  }
}

resource "azurerm_role_assignment" "pixelmill" {
  for_each             = local.roles
  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.pixelmill.principal_id
}

resource "azurerm_role_assignment" "pulls" {
  for_each             = local.pulls
  scope                = var.registry_id
  role_definition_name = "AcrPull"
  principal_id         = each.value
}
