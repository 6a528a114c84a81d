"""What `thumbd demo` is made of: a sample film and the page that shows the pictures taken from it."""
