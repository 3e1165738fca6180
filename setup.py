"""Everything lives in setup.cfg; this file lets old and new tools find it."""

from setuptools import setup

setup()
