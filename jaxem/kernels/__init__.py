"""The few hot loops: small-matrix linear algebra and the Gaussian kernels."""
