"""Points and distances. Coordinate systems: cartesian and WGS 84, each in two and three dimensions.

Distances on WGS 84 are great circles (haversine formula) on a sphere of 6,378,140 m, at the mean
height of the two points where there is one, the difference of heights joined as by Pythagoras.
"""

from __future__ import annotations

import math
from typing import Any

from neo4j.spatial import CartesianPoint, Point, WGS84Point

from graph.cypher.functions.definition import Family, argument_error, expect_number, wrong_type

__all__ = ["FAMILY"]

FAMILY = Family()

EARTH_RADIUS_M = 6_378_140.0
_SYSTEMS = {
    "cartesian": (7203, False, 2),
    "cartesian-3d": (9157, False, 3),
    "wgs-84": (4326, True, 2),
    "wgs-84-3d": (4979, True, 3),
}


@FAMILY.add("point", 1)
def point(value: Any) -> Point | None:
    """``point({x:, y: [, z:] | longitude:, latitude: [, height:] [, crs: | srid:]})``."""
    if not isinstance(value, dict):
        raise wrong_type("point", "a Map", value)
    geographic = "longitude" in value or "latitude" in value
    names = ("longitude", "latitude") if geographic else ("x", "y")
    third = next((name for name in ("z", "height") if name in value), None)
    keys = (*names, third) if third else names
    for name in keys:
        if name not in value:
            raise argument_error("point", f"`{name}` is missing.")
        if value[name] is None:
            return None
    coordinates = [float(expect_number("point", value[name])) for name in keys]
    system = _system(value)
    if system is not None:
        _, system_geographic, dimensions = system
        if dimensions != len(coordinates) or (geographic and not system_geographic):
            raise argument_error("point", "the coordinates do not fit the coordinate system.")
        geographic = system_geographic
    if geographic and not (-90 <= coordinates[1] <= 90):
        raise argument_error("point", "the latitude must be between -90 and 90 degrees.")
    if not geographic:
        return CartesianPoint(coordinates)
    if not -180 <= coordinates[0] <= 180:
        coordinates[0] = (coordinates[0] + 180) % 360 - 180
    return WGS84Point(coordinates)


def _system(value: dict[str, Any]) -> tuple[int, bool, int] | None:
    if "crs" in value:
        found = _SYSTEMS.get(str(value["crs"]).lower())
        if found is None:
            raise argument_error("point", f"unknown crs; known are {', '.join(_SYSTEMS)}.")
        return found
    if "srid" in value:
        for system in _SYSTEMS.values():
            if system[0] == value["srid"]:
                return system
        raise argument_error("point", "unknown srid; known are 7203, 9157, 4326 and 4979.")
    return None


@FAMILY.add("point.distance distance", 2)
def distance(a: Any, b: Any) -> float | None:
    """Metres on WGS 84, units of the axes otherwise; null if the systems differ."""
    for value in (a, b):
        if not isinstance(value, Point):
            raise wrong_type("point.distance", "a Point", value)
    if type(a) is not type(b) or len(a) != len(b):
        return None
    if not isinstance(a, WGS84Point):
        return math.dist(a, b)
    radius = EARTH_RADIUS_M + ((a[2] + b[2]) / 2 if len(a) == 3 else 0.0)
    half_lat = math.radians(b[1] - a[1]) / 2
    half_lon = math.radians(b[0] - a[0]) / 2
    square = math.sin(half_lat) ** 2 + (
        math.cos(math.radians(a[1])) * math.cos(math.radians(b[1])) * math.sin(half_lon) ** 2
    )
    ground = 2 * radius * math.asin(math.sqrt(min(1.0, square)))
    return math.hypot(ground, a[2] - b[2]) if len(a) == 3 else ground


@FAMILY.add("point.withinBBox", 3)
def within_box(value: Any, lower: Any, upper: Any) -> bool | None:
    """Whether a point lies in the box; null if the systems differ. On WGS 84 a box whose west
    exceeds its east crosses the 180th meridian."""
    for each in (value, lower, upper):
        if not isinstance(each, Point):
            raise wrong_type("point.withinBBox", "a Point", each)
    if not (type(value) is type(lower) is type(upper)):
        return None
    if not len(value) == len(lower) == len(upper):
        return None
    inside = [low <= at <= high for low, at, high in zip(lower, value, upper, strict=True)]
    if isinstance(value, WGS84Point) and lower[0] > upper[0]:
        inside[0] = value[0] >= lower[0] or value[0] <= upper[0]
    return all(inside)
