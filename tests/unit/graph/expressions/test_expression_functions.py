"""Built-in functions but for temporal ones: text -> value; text -> error."""

import math
import re

import pytest
from expression_support import context, evaluate, same, value
from neo4j.spatial import CartesianPoint, WGS84Point

from graph.cypher.functions.registry import find_function, known_names
from graph.errors import CypherArgumentError, CypherTypeError, GraphError, LimitError
from graph.vector import Vector

N = None

VALUES = [
    ("toInteger('42')", 42),
    ("toInteger(' -7 ')", -7),
    ("toInteger('1.7')", 1),
    ("toInteger(-2.9)", -2),
    ("toInteger('foo')", N),
    ("toInteger('')", N),
    ("toInteger('9223372036854775808')", N),
    ("toInteger(true)", 1),
    ("toInteger(null)", N),
    ("toInteger(0.0 / 0.0)", N),
    ("toFloat('1e3')", 1000.0),
    ("toFloat(3)", 3.0),
    ("toFloat('1.')", 1.0),
    ("toFloat('1_000')", N),
    ("toFloat('inf')", N),
    ("toBoolean('TRUE')", True),
    ("toBoolean(0)", False),
    ("toBoolean('tru')", N),
    ("toString(1)", "1"),
    ("toString(2.3)", "2.3"),
    ("toString(1.0)", "1.0"),
    ("toString(1e10)", "1.0E10"),
    ("toString(1.5e-5)", "1.5E-5"),
    ("toString(123456.7)", "123456.7"),
    ("toString(true)", "true"),
    ("toString(0.0 / 0.0)", "NaN"),
    ("toString(-1.0 / 0)", "-Infinity"),
    ("toIntegerOrNull([])", N),
    ("toFloatOrNull(true)", N),
    ("toBooleanOrNull(1.5)", N),
    ("toStringOrNull({})", N),
    ("toIntegerList(['1', 2.5, [], null])", [1, 2, N, N]),
    ("toStringList([1, true])", ["1", "true"]),
    ("size('abc')", 3),
    ("size([1, null])", 2),
    ("size(null)", N),
    ("isEmpty('')", True),
    ("isEmpty({a: 1})", False),
    ("nullIf(1, 1.0)", N),
    ("nullIf(1, 2)", 1),
    ("nullIf(null, 2)", N),
    ("keys({b: 1, a: 2})", ["b", "a"]),
    ("properties({a: 1})", {"a": 1}),
    ("properties(null)", N),
    ("valueType(1)", "INTEGER NOT NULL"),
    ("valueType(null)", "NULL"),
    ("valueType(['a', null])", "LIST<NULL | STRING NOT NULL> NOT NULL"),
    ("timestamp()", 1706933106000),
    ("head([1, 2])", 1),
    ("head([])", N),
    ("last([1, 2])", 2),
    ("tail([1, 2, 3])", [2, 3]),
    ("tail([])", []),
    ("reverse([1, 2])", [2, 1]),
    ("reverse('ab')", "ba"),
    ("range(1, 3)", [1, 2, 3]),
    ("range(3, 1)", []),
    ("range(10, 1, -4)", [10, 6, 2]),
    ("range(0, 0, -1)", [0]),
    ("abs(-1)", 1),
    ("abs(-1.5)", 1.5),
    ("sign(-0.1)", -1),
    ("sign(0)", 0),
    ("ceil(1.1)", 2.0),
    ("floor(-1.1)", -2.0),
    ("round(1.5)", 2.0),
    ("round(-1.5)", -1.0),
    ("round(0.49999999999999994)", 0.0),
    ("round(1.249, 1)", 1.2),
    ("round(-1.25, 1)", -1.3),
    ("round(1.25, 1, 'HALF_EVEN')", 1.2),
    ("round(1.21, 1, 'UP')", 1.3),
    ("sqrt(16)", 4.0),
    ("sqrt(-1)", math.nan),
    ("exp(0)", 1.0),
    ("exp(1000)", math.inf),
    ("log(0)", -math.inf),
    ("log(-1)", math.nan),
    ("log10(1000)", 3.0),
    ("sin(0)", 0.0),
    ("asin(2)", math.nan),
    ("sin(1.0 / 0)", math.nan),
    ("cosh(1000)", math.inf),
    ("atan2(0, -1)", math.pi),
    ("degrees(pi())", 180.0),
    ("radians(180)", math.pi),
    ("haversin(0)", 0.0),
    ("e()", math.e),
    ("isNaN(0.0 / 0.0)", True),
    ("toLower('ABc')", "abc"),
    ("toUpper('abC')", "ABC"),
    ("trim('  a ')", "a"),
    ("ltrim(' a ')", "a "),
    ("rtrim(' a ')", " a"),
    ("btrim('xax', 'x')", "a"),
    ("replace('aXbX', 'X', '-')", "a-b-"),
    ("split('a,b', ',')", ["a", "b"]),
    ("split('ab', '')", ["a", "b"]),
    ("split('a,b;c', [',', ';'])", ["a", "b", "c"]),
    ("split(null, ',')", N),
    ("substring('hello', 1)", "ello"),
    ("substring('hello', 1, 2)", "el"),
    ("substring('hello', 9)", ""),
    ("left('hello', 2)", "he"),
    ("right('hello', 2)", "lo"),
    ("right('hello', 9)", "hello"),
    ("normalize('e\u0301')", "\u00e9"),
    ("point({x: 1, y: 2}).y", 2.0),
    ("point({longitude: 1, latitude: 2}).srid", 4326),
    ("point({x: 1, y: 2, z: 3}).crs", "cartesian-3d"),
    ("point({x: 1, y: 2}).latitude", N),
    ("point({x: 1, y: null})", N),
    ("point.distance(point({x: 0, y: 0}), point({x: 3, y: 4}))", 5.0),
    ("distance(point({x: 0, y: 0}), point({longitude: 0, latitude: 0}))", N),
    ("point({x: 1, y: 2}) = point({x: 1.0, y: 2.0})", True),
    ("toString(point({x: 1, y: 2}))", "point({x: 1.0, y: 2.0, srid: 7203})"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_value(text, expected):
    found = value(text)
    assert same(found, expected), found


ERRORS = [
    ("toInteger([])", CypherTypeError),
    ("toInteger(1e300)", CypherArgumentError),
    ("toFloat(true)", CypherTypeError),
    ("toBoolean(1.0)", CypherTypeError),
    ("toString([])", CypherTypeError),
    ("head(1)", CypherTypeError),
    ("range(2, 8, 0)", CypherArgumentError),
    ("range(0, 1.0)", CypherArgumentError),
    ("abs('1')", CypherTypeError),
    ("abs(-9223372036854775807 - 1)", CypherArgumentError),
    ("round(1, -1)", CypherArgumentError),
    ("round(1.5, 1, 'SIDEWAYS')", CypherArgumentError),
    ("substring('a', -1)", CypherArgumentError),
    ("left('a', -1)", CypherArgumentError),
    ("toUpper(1)", CypherTypeError),
    ("split('a', 1)", CypherTypeError),
    ("normalize('a', 'NFX')", CypherArgumentError),
    ("point({x: 1})", CypherArgumentError),
    ("point({latitude: 91, longitude: 0})", CypherArgumentError),
    ("point({x: 1, y: 2, crs: 'flat'})", CypherArgumentError),
    ("point({x: 1, y: 2, crs: 'cartesian-3d'})", CypherArgumentError),
    ("point({x: 'a', y: 2})", CypherTypeError),
    ("point.distance(1, 2)", CypherTypeError),
    ("replace('aaaaaaaa', 'a', $long)", LimitError),
]


@pytest.mark.parametrize(("text", "error"), ERRORS)
def test_error(text, error):
    with pytest.raises(error) as raised:
        value(text, long="b" * (1 << 24))
    assert len(raised.value.message) > 20


def test_points_are_the_drivers():
    assert value("point({x: 1, y: 2})") == CartesianPoint((1, 2))
    assert value("point({longitude: 190, latitude: 2})") == WGS84Point((-170, 2))
    assert value("point({x: 1, y: 2, srid: 4326})") == WGS84Point((1, 2))


def test_distance_on_the_globe():
    # Copenhagen to Stockholm: 522 km along the great circle.
    found = value(
        "point.distance(point({latitude: 55.676, longitude: 12.568}),"
        " point({latitude: 59.329, longitude: 18.069}))"
    )
    assert 520_000 < found < 524_000
    box = "point.withinBBox(point({x: %s, y: 1}), point({x: 0, y: 0}), point({x: 2, y: 2}))"
    assert value(box % 1) is True
    assert value(box % 3) is False


def test_random_values_come_from_the_context():
    first = evaluate("randomUUID()", {"x": Vector.constant(1, 3)})
    assert first == evaluate("randomUUID()", {"x": Vector.constant(1, 3)})
    assert len(set(first)) == 3
    pattern = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, each) for each in first)
    assert all(0 <= each < 1 for each in evaluate("rand()", {"x": Vector.constant(1, 9)}))


def test_every_function_gives_null_for_null_arguments():
    for name in sorted(known_names()):
        function = find_function(name)
        if function is None or function.nulls or not function.min_args:
            continue
        arguments = ", ".join(["null"] * function.min_args)
        assert value(f"{function.name}({arguments})") is None, name


JUNK = ["1", "-1", "1.5", "0.0/0.0", "'x'", "''", "true", "[]", "[1, 'a', null]", "{}", "{a: 1}"]
JUNK += ["date('2020-01-01')", "duration('P1D')", "point({x: 1, y: 2})", "9223372036854775807"]


@pytest.mark.parametrize("argument", JUNK)
def test_no_function_fails_otherwise_than_by_a_graph_error(argument):
    for name in sorted(known_names()):
        function = find_function(name)
        if function is None:
            continue
        for count in {function.min_args, function.max_args or 1} - {0}:
            arguments = ", ".join([argument] * count)
            try:
                value(f"{function.name}({arguments})")
            except GraphError as error:
                assert error.message


def test_names_are_known_in_lower_case():
    assert {"count", "coalesce", "tointeger", "date.truncate"} <= known_names()
    assert all(name == name.lower() for name in known_names())
    assert context().check_deleted
