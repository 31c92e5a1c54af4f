"""Which of some rows DuckDB keeps under conditions: tests/golden/sql_filter.json.

    python tests/golden/sql_filter.py > tests/golden/sql_filter.json
"""

import json

import duckdb

ROWS = [
    {"id": i, "language": language, "output": output, "score": score, "rating": rating, "good": good}
    for i, (language, output, score, rating, good) in enumerate(
        [
            ("python", "def f():\n    return 1", 0.5, 3, True),
            ("python", "", 51.25, 0, False),
            ("go", "func main() { fmt.Println(\"hi\") }", 90.0, 5, True),
            ("Go", "naïve café — 日本語 text, longer than twenty", -3.75, 4, None),
            (None, "no language at all, but some words", 12.0, 2, True),
            ("rust", None, None, None, False),
            ("c++", "100% _sure_ it's fine", 1e6, -7, True),
            ("go", "ok", 7.5, 3, False),
            ("python", "x = '%d'\n", 0.0, 10, None),
            ("java", "🙂🙂🙂", 99.999, 1, True),
            (None, None, None, None, None),
            ("PYTHON", "  spaces around  ", 50.0, 2, False),
        ]
    )
]

CONDITIONS = [
    "language IN ('python','go') AND length(output) > 20",
    "language IN ('python', 'go')",
    "language NOT IN ('python', 'go')",
    "language = 'python' OR score > 50",
    "NOT (language = 'python')",
    "language <> 'go'",
    "language IS NULL",
    "language IS NOT NULL AND output IS NULL",
    "language IS DISTINCT FROM 'go'",
    "good",
    "NOT good",
    "good IS NULL",
    "good = FALSE",
    "good IS TRUE",
    "good OR rating > 2",
    "good AND rating > 2",
    "score BETWEEN 7.5 AND 90",
    "score NOT BETWEEN 0 AND 50",
    "rating >= 3 AND rating < 10",
    "rating % 2 = 0",
    "rating / 2 > 1",
    "rating * 2 + 1 = 7",
    "-rating > 0",
    "abs(rating) = 7",
    "round(score) = 100",
    "score + rating > 50",
    "rating = 3.0",
    "score = 50",
    "length(output) = 3",
    "length(output) > length(language)",
    "lower(language) = 'python'",
    "upper(language) IN ('GO')",
    "output LIKE '%text%'",
    "output NOT LIKE '%e%'",
    "output LIKE '___'",
    "language ILIKE 'PY%'",
    "starts_with(language, 'py')",
    "output = ''",
    "language || '!' = 'go!'",
    "coalesce(language, 'none') = 'none'",
    "coalesce(rating, 0) = 0",
    "CASE WHEN rating > 3 THEN good ELSE score > 50 END",
    "nullif(language, 'go') IS NULL",
    "CAST(rating AS VARCHAR) = '3'",
    "CAST(score AS BIGINT) = 12",
    "TRY_CAST(language AS DOUBLE) IS NULL",
    "trim(output) = 'spaces around'",
    "strpos(output, 'e') > 0",
    "substr(output, 1, 2) = 'no'",
    "left(language, 2) = 'py'",
    "language > 'java'",
    "replace(language, '+', 'p') = 'cpp'",
    "regexp_like(output, '^[a-z]+$')",
    "language IS NULL OR language IN ('rust')",
    "greatest(score, 50) = 50",
    "rating IN (3, NULL)",
    "\"language\" = 'go'",
    "rating > 2 -- comment",
]


def main():
    con = duckdb.connect()
    con.execute(
        "create table rows (id bigint, language varchar, output varchar, score double, rating bigint, good boolean)"
    )
    con.executemany("insert into rows values (?, ?, ?, ?, ?, ?)", [list(row.values()) for row in ROWS])
    kept = {}
    for condition in CONDITIONS:
        # DuckDB has another name for it.
        query = f"select id from rows where ({condition.replace('regexp_like', 'regexp_matches')}\n) order by id"
        kept[condition] = [row[0] for row in con.execute(query).fetchall()]
    print(json.dumps({"duckdb": duckdb.__version__, "rows": ROWS, "kept": kept}, indent=1, ensure_ascii=False))


main()
