"""Draws: contact sheets, curves and HTML pages.

In: pictures, figures and text. Out: one image or one HTML file.
May use the ground only.
"""
