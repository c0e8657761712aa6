"""What pyproject.toml cannot say: folders beside the package that go into it.

In a wheel etc/, schema/, static/ and templates/ lie inside ``backoffice``, where
``backoffice.config.resources.share`` finds them; in a checkout they lie at the top.
"""

from setuptools import find_packages, setup

SHARED = ("etc", "schema", "static", "templates")

setup(
    packages=[
        *find_packages(include=["backoffice", "backoffice.*", "middleware", "middleware.*"]),
        *(f"backoffice.{name}" for name in SHARED),
    ],
    package_dir={f"backoffice.{name}": name for name in SHARED},
    package_data={f"backoffice.{name}": ["*", "**/*"] for name in SHARED},
)
