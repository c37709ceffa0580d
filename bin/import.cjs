'use strict'
// A script inside a single-file executable cannot import files; one that is a file itself can.
const { pathToFileURL } = require('node:url')

module.exports = script => import(pathToFileURL(script).href)
