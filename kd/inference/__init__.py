"""A trained network outside its run: what its file says of itself, loading it, and the images that it takes."""
