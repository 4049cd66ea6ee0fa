"""The commands of `pixserve` that speak to a gateway."""
