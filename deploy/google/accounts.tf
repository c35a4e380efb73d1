locals {
  accounts = {
    overflow = "Pixelmill: runs overflow tasks, and may do nothing else"
    events   = "Pixelmill: works on uploads"
    push     = "Pixelmill: under which Pub/Sub calls the service that works on uploads"
  }
}

resource "google_service_account" "accounts" {
  for_each     = local.accounts
  account_id   = "${var.name}-${each.key}"
  display_name = each.value
  depends_on   = [google_project_service.apis]
}

resource "google_service_account" "hub" {
  count        = var.hub_account == "" ? 1 : 0
  account_id   = "${var.name}-hub"
  display_name = "Pixelmill: the hub, which may call the overflow service"
  depends_on   = [google_project_service.apis]
}

locals {
  hub = var.hub_account == "" ? google_service_account.hub[0].email : var.hub_account
}
