"""The settings of registration, apart from it: a configuration is read where nothing is registered, too."""

import dataclasses

from relightgan.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RegisterSettings:
    """How the photos of both days are put into one world.

    Raises:
        ConfigError: a value makes no sense.
    """

    # The fit then learns from what photos of the other day saw at every pixel. Takes minutes on large folders; off, or
    # where it fails, it learns from gains of look-alike patches.
    enabled: bool = True
    max_photos: int = 400  # of each day, evenly spread over its folder; more cost time
    max_points: int = 1200  # SIFT points a photo, strongest first
    partners: int = 10  # each photo is matched with this many of its own day, most similar first
    partners_across: int = 6  # and with this many of the other day

    def __post_init__(self) -> None:
        for name, least in (("max_photos", 3), ("max_points", 1), ("partners", 1), ("partners_across", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}.", f"Give at least {least}.")
