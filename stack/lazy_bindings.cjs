// Loads a service of the AWS bindings when it is first asked for, and not all 1,500 beforehand.
//
// Node runs this before jsii's kernel. The bindings' index is a list of exports, one of a service
// each; they become getters. What does not look like such an export is left as it is.
"use strict";

const fs = require("node:fs");
const Module = require("node:module");

const INDEX = /[\\/]provider-aws[\\/](?:.+[\\/])?lib[\\/]index\.js$/;
const EXPORT = /^exports\.(\w+) = (require\("\.\/[^"]+"\));$/gm;

const load = Module._extensions[".js"];
Module._extensions[".js"] = function (module, filename) {
  if (!INDEX.test(filename)) {
    return load(module, filename);
  }
  const source = fs.readFileSync(filename, "utf8").replace(
    EXPORT,
    'Object.defineProperty(exports, "$1", { configurable: true, enumerable: true, get: () => $2 });',
  );
  return module._compile(source, filename);
};
