"""Features of images and captions."""
