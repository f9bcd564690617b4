/** Numbers of publishes, which make them safe to repeat (P-PUB-9): what was used, and up to where all is settled. */

export class Numbering {
  /** @param {string} publisher */
  constructor(publisher) {
    this.publisher = publisher;
    /** The highest number that was used. */
    this.last = 0;
    /** @type {Set<number>} in ascending order, since numbers are taken so */
    this._open = new Set();
  }

  /** Whether every number is settled. */
  get idle() {
    return !this._open.size;
  }

  /** The number up to which every publish is settled. */
  get settled() {
    const [first = this.last + 1] = this._open;
    return first - 1;
  }

  /** Use the next number; return it. */
  take() {
    this._open.add(++this.last);
    return this.last;
  }

  /** @param {number} seq one whose publish is settled */
  settle(seq) {
    this._open.delete(seq);
  }

  /**
   * @param {number} seq
   * @param {number} most
   * @returns {boolean} whether a node takes this number: it is not too far beyond what is settled
   */
  hasRoom(seq, most) {
    return seq - this.settled <= most;
  }
}

/** A queue of tuples of numbers, the least first; equal ones count once each. */
export class Heap {
  constructor() {
    /** @type {number[][]} */
    this._items = [];
  }

  /** @returns {number[] | undefined} the least */
  get first() {
    return this._items[0];
  }

  /** @param {number[]} item */
  push(item) {
    let low = 0;
    for (let high = this._items.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (isLess(item, this._items[middle])) high = middle;
      else low = middle + 1;
    }
    this._items.splice(low, 0, item);
  }

  pop() {
    return this._items.shift();
  }

  clear() {
    this._items.length = 0;
  }
}

/**
 * @param {number[]} one
 * @param {number[]} other
 */
function isLess(one, other) {
  const at = one.findIndex((number, i) => number !== other[i]);
  return at >= 0 && one[at] < other[at];
}
