// A PGlite, or one with TimescaleDB, behind a socket: `node pglite.mjs FOLDER PACKAGE CONNECTIONS [EXTENSION]`.
// FOLDER holds the packages, PACKAGE is that of PGlite. Prints the port when it listens, and ends with its input.

import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, name, connections, extension] = process.argv.slice(2);
const load = (...parts) =>
  import(pathToFileURL(path.join(folder, 'node_modules', ...parts, 'index.js')).href);

const { PGlite } = await load(name, 'dist');
const { PGLiteSocketServer } = await load('@electric-sql/pglite-socket', 'dist');
const extensions = extension ? await load(name, 'dist', extension) : {};
const db = await PGlite.create({ extensions: extension ? { [extension]: extensions[extension] } : {} });
const server = new PGLiteSocketServer({
  db,
  port: 0,
  host: '127.0.0.1',
  maxConnections: Number(connections),
});
server.addEventListener('listening', (event) => console.log(event.detail.port));
await server.start();
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
