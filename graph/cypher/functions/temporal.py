from graph.cypher.functions.definition import Family

FAMILY = Family()
