"""The tests own their process: 64-bit mode, eight host devices, a persistent compilation cache."""

import os
import tempfile

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 8)
shared = os.path.join(tempfile.gettempdir(), f"jaxem-tests-{os.getuid()}-{jax.__version__}")
cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or shared
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
