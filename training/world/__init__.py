"""The photos of both days as cameras in one world.

In: photos and their embeddings. Out: cameras, points, depths, and the place of a plate among them.
May use `pairs`, `photos`, `report` and the ground.
"""
