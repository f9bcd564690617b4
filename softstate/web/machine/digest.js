/**
 * The subscription digest (P-REN-1): the sum, modulo 2^64, of the first 8 bytes of the SHA-256 of each name.
 *
 * SHA-256 is written out here, since the machine never waits, and a browser's own answers later.
 */

import { utf8 } from "./names.js";

const words = (/** @type {string} */ hex) => Int32Array.from(hex.match(/.{8}/g) ?? [], (word) => parseInt(word, 16));

const START = words("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19");

const ROUNDS = words(
  "428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5d807aa9812835b01243185be550c7dc3" +
    "72be5d7480deb1fe9bdc06a7c19bf174e49b69c1efbe47860fc19dc6240ca1cc2de92c6f4a7484aa5cb0a9dc76f988da" +
    "983e5152a831c66db00327c8bf597fc7c6e00bf3d5a7914706ca63511429296727b70a852e1b21384d2c6dfc53380d13" +
    "650a7354766a0abb81c2c92e92722c85a2bfe8a1a81a664bc24b8b70c76c51a3d192e819d6990624f40e3585106aa070" +
    "19a4c1161e376c082748774c34b0bcb5391c0cb34ed8aa4a5b9cca4f682e6ff3748f82ee78a5636f84c878148cc70208" +
    "90befffaa4506cebbef9a3f7c67178f2",
);

const turn = (/** @type {number} */ word, /** @type {number} */ bits) => (word >>> bits) | (word << (32 - bits));

/**
 * @param {Uint8Array} bytes
 * @returns {Int32Array} the eight words of the SHA-256 (FIPS 180-4)
 */
export function sha256(bytes) {
  const size = ((bytes.length + 72) >> 6) << 6;
  const padded = new DataView(new ArrayBuffer(size));
  new Uint8Array(padded.buffer).set(bytes);
  padded.setUint8(bytes.length, 0x80);
  padded.setUint32(size - 8, Math.floor(bytes.length / 2 ** 29));
  padded.setUint32(size - 4, bytes.length << 3);
  const hash = START.slice();
  const schedule = new Int32Array(64);
  for (let at = 0; at < size; at += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        schedule[i] = padded.getInt32(at + 4 * i);
      } else {
        const w15 = schedule[i - 15];
        const w2 = schedule[i - 2];
        const s0 = turn(w15, 7) ^ turn(w15, 18) ^ (w15 >>> 3);
        const s1 = turn(w2, 17) ^ turn(w2, 19) ^ (w2 >>> 10);
        schedule[i] = schedule[i - 16] + s0 + schedule[i - 7] + s1;
      }
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i++) {
      const choice = (e & f) ^ (~e & g);
      const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + choice + ROUNDS[i] + schedule[i]) | 0;
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (hash[i] += word));
  }
  return hash;
}

/**
 * @param {string} name
 * @returns {bigint} the number of 64 bits that a name adds to a digest
 */
export function nameHash(name) {
  const hash = sha256(utf8(name));
  return (BigInt(hash[0] >>> 0) << 32n) | BigInt(hash[1] >>> 0);
}

/**
 * @param {bigint} digest the sum of the hashes of a set, of any sign and size
 * @returns {string} the digest as it goes over the wire: 16 lower-case hex digits
 */
export function digestText(digest) {
  return BigInt.asUintN(64, digest).toString(16).padStart(16, "0");
}
