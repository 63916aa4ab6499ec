"""A folder of photos becomes an index and a bank of pixels.

In: folders of stills and movies. Out: which photos are kept, and why others are not; pixels in one encoding.
May use `report` and the ground.
"""
