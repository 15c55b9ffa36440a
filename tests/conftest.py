"""The tests own their process: 64-bit mode, eight host devices, a persistent compilation cache."""

import os
import tempfile
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 8)
shared = os.path.join(tempfile.gettempdir(), f"jaxem-tests-{os.getuid()}-{jax.__version__}")
cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or shared
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(autouse=True)
def few_programs():
    """A process may hold only so many memory maps (65,530 on Linux), and compiled programs take some each: forget them in time."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()
