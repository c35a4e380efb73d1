variable "name" {
  description = "Begins the name of everything that is made."
  type        = string
  default     = "pixelmill"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,29}$", var.name))
    error_message = "2 to 30 small letters, digits and '-', the first a letter: it becomes part of the names of buckets."
  }
}

variable "region" {
  description = "Where it runs, such as eu-central-1."
  type        = string
}

variable "image_uri" {
  description = "The image built with --target lambda, in a repository of Amazon ECR in this region; better by @sha256 than by tag."
  type        = string
}

variable "architecture" {
  description = "What the image was built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "x86_64 or arm64."
  }
}

variable "pipeline" {
  description = "The pipeline in its text form."
  type        = string
  default     = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"
}

variable "input_prefix" {
  description = "Only objects whose key begins so are taken, and may be read."
  type        = string
  default     = ""
}

variable "output_name" {
  description = "Template of the names of results; empty is the function's own default."
  type        = string
  default     = ""
}

variable "memory_mib" {
  description = "CPU comes with it; 1769 is one whole core."
  type        = number
  default     = 1024
}

variable "timeout_s" {
  description = "Limit of one batch of up to 10 objects, in seconds."
  type        = number
  default     = 60
  validation {
    condition     = var.timeout_s >= 3 && var.timeout_s <= 900
    error_message = "From 3 to 900 seconds."
  }
}

variable "concurrency" {
  description = "Batches that run at once, at most; what the queue may start."
  type        = number
  default     = 10
  validation {
    condition     = var.concurrency >= 2 && var.concurrency <= 1000
    error_message = "From 2 to 1000."
  }
}

variable "reserved_concurrency" {
  description = "Concurrency kept for this function and never exceeded, by direct callers neither; -1 for none. AWS refuses it where less than its minimum would remain for the account's other functions."
  type        = number
  default     = 20
}

variable "log_days" {
  description = "How long logs are kept; one of CloudWatch's own steps (1, 3, 5, 7, 14, 30, 60, 90, ...)."
  type        = number
  default     = 30
}

variable "old_version_days" {
  description = "How long overwritten and deleted objects can be brought back."
  type        = number
  default     = 7
}

variable "alarm_email" {
  description = "Gets the alarms, once it has confirmed the first mail; empty for nobody."
  type        = string
  default     = ""
}

variable "alarm_age_s" {
  description = "Alarm when an object waits for longer, in seconds."
  type        = number
  default     = 600
}
