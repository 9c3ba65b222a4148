"""From the bytes of a picture to pixels as a head takes them. Training uses it too."""
