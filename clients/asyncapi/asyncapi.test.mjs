// The AsyncAPI documents are valid, by AsyncAPI's own parser, and say what real clients and servers say: the examples
// on the page of the Centrifuge protocol fit the schemas. NARU_ROOT names the clone.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

import { Parser } from "@asyncapi/parser";

// The validator of JSON Schema that the parser brings.
const require = createRequire(createRequire(import.meta.url).resolve("@asyncapi/parser"));
const Ajv = require("ajv").default;

const root = process.env.NARU_ROOT;
const text = (path) => readFileSync(join(root, path), "utf8");
const SEVERITIES = ["error", "warning"];

async function parsed(path) {
  const { document, diagnostics } = await new Parser().parse(text(path));
  const complaints = diagnostics
    .filter(({ severity }) => severity < SEVERITIES.length)
    .map(({ severity, code, message, path }) => `${SEVERITIES[severity]} ${code} ${path.join(".")}: ${message}`);
  return { document, complaints };
}

for (const name of ["stomp", "centrifuge"]) {
  test(`the document of ${name} is valid`, async () => {
    const { document, complaints } = await parsed(`docs/api/asyncapi-${name}.json`);
    assert.deepEqual(complaints, []);
    assert.equal(document.version(), "3.0.0");
    assert.ok(document.messages().length >= 15);
    assert.ok(document.operations().length >= 13);
  });
}

test("a mistake in a document is seen", async () => {
  const document = JSON.parse(text("docs/api/asyncapi-stomp.json"));
  document.operations["connection.connect"].action = "shout";
  const { diagnostics } = await new Parser().parse(JSON.stringify(document));
  assert.ok(diagnostics.some(({ severity }) => severity === 0));
});

test("what is said on the page fits the schemas, and nonsense does not", () => {
  const document = JSON.parse(text("docs/api/asyncapi-centrifuge.json"));
  const ajv = new Ajv({ strict: false });
  ajv.addSchema(document, "doc");
  const names = Object.keys(document.components.messages);
  const fits = (line, isClient) => {
    const value = JSON.parse(line);
    return names
      .filter((name) => isClient === (name.endsWith("Command") || name === "pong"))
      .some((name) => ajv.validate(`doc#/components/messages/${name}/payload`, value));
  };
  const lines = text("docs/protocols/centrifuge.md")
    .split("\n")
    .filter((line) => /^[<>] \{/.test(line));
  assert.ok(lines.length >= 15);
  for (const line of lines) assert.ok(fits(line.slice(2), line.startsWith(">")), line);
  assert.ok(!fits('{"id":1,"subscribe":{"chanel":"chat:1"}}', true));
  assert.ok(!fits('{"id":1,"publish":{"offset":1}}', false));
  assert.ok(!fits('{"subscribe":{"channel":"chat:1"}}', true));
});
