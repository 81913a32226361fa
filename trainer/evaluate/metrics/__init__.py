"""What is measured of pictures: small functions of arrays, and feature networks."""
