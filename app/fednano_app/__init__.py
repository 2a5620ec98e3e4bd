"""Flower's entry points into the installed fednano; shipped as an app bundle."""
