"""Installs what `settings.ini` describes; nbdev reads the same file."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
readme = here / "README.md"

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    license="Apache-2.0",
    description=cfg["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    packages=find_packages(include=["experiment", "experiment.*"], exclude=["experiment.lab", "experiment.lab.*"]),
    package_dir={"": "."},
    include_package_data=True,
    package_data={"experiment": ["data/**/*"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={
        name.removesuffix("_requirements"): cfg[name].split() for name in cfg if name.endswith("_requirements")
    },
    entry_points={"console_scripts": [line.strip() for line in cfg["console_scripts"].splitlines() if line.strip()]},
    zip_safe=False,
)
