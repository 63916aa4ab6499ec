"""What the other day's photos saw at each pixel of a photo or of a plate.

In: the photos of both days as cameras in one world. Out: maps of colours and weights.
May use `world`, `pairs`, `photos`, `report` and the ground.
"""
