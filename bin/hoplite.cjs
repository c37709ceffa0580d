#!/usr/bin/env node
'use strict'
// The command `hoplite`: from the source in the repository, from compiled JavaScript in the published package.
const { existsSync } = require('node:fs')
const path = require('node:path')
const compiled = path.join(__dirname, '..', 'dist', 'cli', 'main.js')
const main = existsSync(compiled) ? compiled : path.join(__dirname, '..', 'src', 'cli', 'main.ts')
require('./launch.cjs').launch([main, ...process.argv.slice(2)])
