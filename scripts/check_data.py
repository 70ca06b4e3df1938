#!/usr/bin/env python3
"""Checks the data that the project ships: sample reviews, aspects, shots and calibration sentences.

Prints every fault with its place and exits 1 if there is any. Needs Python 3.11, nothing else.
"""

import json
import re
import sys
import tomllib
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("en", "ko")
ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
REVIEW_FIELDS = {"id", "text", "rating", "created_at", "recommended"}


def check_samples(path):
    """Yields the faults of a file with one restaurant a line."""
    restaurants = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        restaurant = json.loads(line)
        if set(restaurant) != {"restaurant_id", "name", "reviews"}:
            yield f"{where}: fields {sorted(restaurant)}"
            continue
        if not ID.fullmatch(restaurant["restaurant_id"]) or restaurant["restaurant_id"] in restaurants:
            yield f"{where}: restaurant id is repeated or has odd characters"
        restaurants.add(restaurant["restaurant_id"])
        if not restaurant["name"].strip():
            yield f"{where}: no name"
        yield from check_reviews(where, restaurant["reviews"])


def check_reviews(where, reviews):
    """Yields the faults of one restaurant's reviews."""
    if not 14 <= len(reviews) <= 40:
        yield f"{where}: {len(reviews)} reviews, 14 to 40 wanted"
    ids, texts = set(), set()
    for review in reviews:
        place = f"{where}: review {review.get('id')!r}"
        if not {"id", "text"} <= set(review) <= REVIEW_FIELDS:
            yield f"{place}: fields {sorted(review)}"
            continue
        if not ID.fullmatch(review["id"]) or review["id"] in ids:
            yield f"{place}: id is repeated or has odd characters"
        if not 1 <= len(review["text"]) <= 900 or review["text"] in texts:
            yield f"{place}: text is empty, too long or repeated"
        if review.get("rating", 3) not in (1, 2, 3, 4, 5):
            yield f"{place}: rating {review['rating']!r}"
        if not isinstance(review.get("recommended", True), bool):
            yield f"{place}: recommended {review['recommended']!r}"
        if "created_at" in review:
            try:
                datetime.fromisoformat(review["created_at"])
            except ValueError:
                yield f"{place}: date {review['created_at']!r}"
        ids.add(review["id"])
        texts.add(review["text"])


def check_language(language):
    """Yields the faults of one language's configuration."""
    config = ROOT / "config"
    aspects = tomllib.loads((config / f"aspects.{language}.toml").read_text(encoding="utf-8"))
    names = [aspect["name"] for aspect in aspects["aspect"]]
    if len(names) != len(set(names)):
        yield f"aspects.{language}.toml: an aspect is repeated"
    for aspect in aspects["aspect"]:
        seeds = aspect["seeds"]
        if len(seeds) < 8 or len(seeds) != len(set(seeds)):
            yield f"aspects.{language}.toml: {aspect['name']}: at least 8 seeds wanted, none twice"

    shots = tomllib.loads((config / f"shots.{language}.toml").read_text(encoding="utf-8"))["shot"]
    labels = [shot["label"] for shot in shots]
    if labels.count("positive") != labels.count("negative") or set(labels) != {"positive", "negative"}:
        yield f"shots.{language}.toml: labels are not half and half"

    lines = (config / f"calibration.{language}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    if any(len(row) != 2 or row[1] not in ("0", "1", "-") for row in rows):
        yield f"calibration.{language}.tsv: every line is a sentence, a tab, and 1, 0 or -"
        return
    if sum(row[1] == "1" for row in rows) != sum(row[1] == "0" for row in rows):
        yield f"calibration.{language}.tsv: labels are not half and half"
    sentences = [row[0] for row in rows]
    if len(sentences) != len(set(sentences)) or set(sentences) & {shot["text"] for shot in shots}:
        yield f"calibration.{language}.tsv: a sentence is repeated, or is a shot as well"


def main():
    faults = list(check_samples(ROOT / "data" / "sample-restaurants.jsonl"))
    for language in LANGUAGES:
        faults += check_language(language)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
