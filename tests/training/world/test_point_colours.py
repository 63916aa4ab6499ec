import numpy as np
import painted_set

from relightgan.core.colour import linear_to_srgb
from relightgan.training.world.point_colours import colours_at


def test_colours_are_read_at_pixel_centres_to_a_fraction_of_a_pixel():
    ramp = np.zeros((50, 100, 3), np.float32)
    ramp[..., 0] = (np.arange(100) + 0.5) / 100  # linear red is x, green is y
    ramp[..., 1] = (np.arange(50)[:, None] + 0.5) / 50
    places = np.float32([[0.3, 0.4], [0.505, 0.5], [0.81, 0.66]])
    bank = painted_set.PaintedBank([np.zeros((5, 5, 3), np.float32), linear_to_srgb(ramp)])
    found = colours_at(bank, np.array([1, 1, 1]), places)
    np.testing.assert_allclose(found[:, :2], places, atol=1e-4)


def test_a_place_at_the_very_edge_is_read_without_harm():
    plain = linear_to_srgb(np.ones((40, 60, 3), np.float32) * np.float32([0.3, 0.2, 0.1]))
    found = colours_at(painted_set.PaintedBank([plain]), np.array([0, 0]), np.float32([[0, 0], [1, 1]]))
    np.testing.assert_allclose(found, [[0.3, 0.2, 0.1]] * 2, atol=1e-5)
