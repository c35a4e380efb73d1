import assert from "node:assert/strict";
import { test } from "node:test";

import { Pace } from "../src/pages/studio/run/pace";

test("nothing is said of the pace before two tasks have ended", () => {
  const pace = new Pace();
  pace.start(0);
  assert.equal(pace.rate(5_000), null);
  pace.ended(5_000);
  assert.equal(pace.rate(6_000), null);
});

test("the pace is that of the last half minute", () => {
  const pace = new Pace();
  pace.start(0);
  for (let at = 1_000; at <= 10_000; at += 1_000) pace.ended(at);
  assert.equal(pace.rate(10_000), 1);
  assert.equal(pace.left(20, 10_000), 20);
  for (let at = 40_100; at <= 70_000; at += 100) pace.ended(at);
  assert.equal(pace.rate(70_000), 10);
  assert.equal(pace.left(5, 70_000), 0.5);
});

test("no more ends are kept than bounded, and the rate stays true", () => {
  const pace = new Pace();
  for (let at = 0; at < 10_000; at += 1) pace.ended(at);
  assert.ok(Math.abs((pace.rate(9_999) ?? 0) - 1000) < 1);
});
