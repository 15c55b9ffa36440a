"""One file a kind of picture; the public names are in `jaxem.plot`."""
