"""Recipes: all settings that decide a result, validated, with their defaults filled in."""
