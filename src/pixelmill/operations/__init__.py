"""What can be done to an image: one family a file, and the table of them."""
