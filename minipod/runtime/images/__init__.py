"""Images (layer 3): the store on disk, what comes into it and goes out of it, the registries it is fetched from."""
