/**
 * why a token is wanted: the check that refused the
 *   last one (null: none, or it ends soon), and how often it was asked since a node took one
 */
export type TokenRequest = {
    rejected: string | null;
    attempt: number;
};
export type TokenFunction = (request: TokenRequest) => Promise<string | null>;
export type PublishOptions = {
    expect?: number;
    key?: string;
};
export type Mode = "closed" | "connecting" | "syncing" | "live" | "suspect" | "polling" | "offline" | "stopped";
/**
 * the newest state of one topic
 */
export type Change = {
    topic: string;
    version: number;
    value: any;
    deleted: boolean;
};
/**
 * a point of the store's history
 */
export type Position = {
    epoch: string;
    lineage: string;
    revision: number;
};
export type Details = {
    retryMs?: number | null;
    current?: number | null;
    position?: Position | null;
    why?: string | null;
};
/**
 * `silent`: others take their place
 */
export type InboxEvent = ({
    type: "change";
} & Change) | {
    type: "reset";
    position: Position;
} | {
    type: "mode";
    mode: Mode;
} | {
    type: "refused";
    url: string;
    error: any;
} | {
    type: "unreadable";
    topics: string[];
} | {
    type: "denied";
    names: string[];
    below: string[];
    silent: boolean;
};
export type ConnectOptions = {
    /**
     * seconds: how old what is known may be for `read`, if that does not say
     */
    maxAge?: number | undefined;
    /**
     * credentials, or an async function that fetches them
     */
    token?: string | TokenFunction | undefined;
    /**
     * whose the tokens of that function are; tabs with the same one share a connection
     */
    principal?: string | undefined;
    /**
     * what nodes call this client in their logs
     */
    name?: string | undefined;
    /**
     * false: poll only
     */
    push?: boolean | undefined;
    /**
     * the longest lease to ask for
     */
    ttlMs?: number | undefined;
    /**
     * where the machine may run at best; by default the first of these
     * that there is
     */
    worker?: "shared" | "dedicated" | "page" | undefined;
    /**
     * where `softstate-worker.js` is, if not beside this module
     */
    workerUrl?: string | URL | undefined;
    /**
     * the class of WebSockets, for Node.js below 22
     */
    WebSocket?: any;
    fetch?: typeof fetch | undefined;
};
/**
 * A client of one or more nodes of one store; `connect` makes these. It listens as an EventTarget: `mode` whenever its
 * mode changes, `error` when it has ended for good.
 */
export class Client extends EventTarget {
    /**
     * @param {any} options of the machine
     * @param {TokenFunction | null} provider
     * @param {number} maxAge what is young enough for `read`, if that does not say
     * @param {Clock} [clock]
     */
    constructor(options: any, provider: TokenFunction | null, maxAge: number, clock?: Clock);
    _options: any;
    _provider: TokenFunction | null;
    _maxAge: number;
    _clock: Clock;
    /** @type {any} */
    _port: any;
    /** @type {Map<number, Updates>} */
    _handles: Map<number, Updates>;
    /** @type {Map<number, {resolve(result: any): void, reject(error: SoftstateError): void, message: any}>} */
    _asked: Map<number, {
        resolve(result: any): void;
        reject(error: SoftstateError): void;
        message: any;
    }>;
    _numbers: number;
    /** @type {Map<number, number>} when each acknowledgement was sent, by this page's clock */
    _sent: Map<number, number>;
    _opening: boolean;
    /** @type {Mode} */
    _mode: Mode;
    /** @type {Position | null} */
    _position: Position | null;
    _because: string;
    /** @type {SoftstateError | null} */
    _lastError: SoftstateError | null;
    /** @type {SoftstateError | null} */
    _end: SoftstateError | null;
    /** @type {() => void} */
    onclose: () => void;
    /** @type {() => void} what finds another engine, once this one has ended */
    onlost: () => void;
    /** connecting, syncing, live, suspect, polling, offline, stopped or closed. */
    get mode(): Mode;
    /** The newest point of the store's history that the client has heard of. */
    get position(): Position | null;
    /** The newest error of a node that waiting does not mend; the client goes on all the same, if it can. */
    get lastError(): SoftstateError | null;
    /** Why the last attempt failed that failed, in words; empty if none has. */
    get because(): string;
    /**
     * Follow topics ("orders/42") and prefixes ("prices/", or "/" for everything) until the handle is closed.
     *
     * The last argument may be `{narrow: true}`: of a prefix that may be read in part only, what may be read takes its
     * place. Throws `invalid` for a malformed name.
     * @param {...(string | {narrow?: boolean})} names
     * @returns {Updates}
     */
    subscribe(...names: (string | {
        narrow?: boolean;
    })[]): Updates;
    /**
     * Return what is known of a topic that a subscription covers, if it is surely no older than `maxAge` seconds: no I/O,
     * at once. `value` is undefined, and `version` 0, if there is no such topic. Throws `stale`, whose `age` tells how old
     * what is known may be.
     * @param {string} topic
     * @param {{maxAge?: number}} [options]
     * @returns {{value: any, version: number, age: number}}
     */
    read(topic: string, { maxAge }?: {
        maxAge?: number;
    }): {
        value: any;
        version: number;
        age: number;
    };
    /** @param {string} topic */
    _best(topic: string): Updates | null;
    /**
     * Read a topic from a node, without subscribing; resolves to undefined for a topic of which nothing is known, and to a
     * change that says `deleted` if its tombstone is. With `atLeast`, a version, the answer is no older than that on
     * each node: give it what `publish` returned to read your own write. Other nodes are asked when one fails or keeps
     * silent. Rejects with `unavailable` when `timeoutMs` is over (10,000 if it is not given), with `behind` if the nodes have
     * not seen that version by then, with `denied`, `unreadable` or `client_closed`.
     * @param {string} topic
     * @param {{atLeast?: number, timeoutMs?: number}} [options]
     * @returns {Promise<Change | undefined>}
     */
    get(topic: string, { atLeast, timeoutMs }?: {
        atLeast?: number;
        timeoutMs?: number;
    }): Promise<Change | undefined>;
    /**
     * Set a topic's value; resolves to its version once it is durable. With `expect`, only if the topic is at that version
     * now (0: if it does not exist). It is sent again until there is an answer.
     *
     * Rejects with `conflict` (`current` has the version that won), `invalid`, `too_large`, `denied`, `overloaded`,
     * `outcome_unknown` (it may have been applied: read the topic) or `client_closed`.
     * @param {string} topic
     * @param {any} value null, boolean, number, bigint of 64 bits, text, Uint8Array, lists and plain objects of these
     * @param {PublishOptions} [options]
     * @returns {Promise<number>}
     */
    publish(topic: string, value: any, options?: PublishOptions): Promise<number>;
    /**
     * Delete a topic; resolves to the version of its tombstone, 0 if there was nothing to delete.
     * @param {string} topic
     * @param {PublishOptions} [options]
     * @returns {Promise<number>}
     */
    delete(topic: string, options?: PublishOptions): Promise<number>;
    /**
     * @param {string} topic
     * @param {any} value
     * @param {boolean} deleted
     * @param {PublishOptions} options
     * @returns {Promise<number>}
     */
    _publish(topic: string, value: any, deleted: boolean, { expect, key }: PublishOptions): Promise<number>;
    /**
     * Publish a topic that has no value yet; resolves to its version. Rejects with `conflict` if it has one, else as
     * `publish` does.
     * @param {string} topic
     * @param {any} value
     * @param {{key?: string}} [options]
     * @returns {Promise<number>}
     */
    create(topic: string, value: any, { key }?: {
        key?: string;
    }): Promise<number>;
    /**
     * Change a topic's value by compare-and-set; resolves to its version.
     *
     * `change` gets a copy of the present value, undefined if there is none, and returns the next, or a promise of it. It is
     * called again whenever another publisher was faster, so it should do nothing else. Rejects with what it throws, and
     * as `publish` and `get` do; with `unavailable` if others were faster until `timeoutMs` was over.
     * @param {string} topic
     * @param {(value: any) => any} change
     * @param {{timeoutMs?: number}} [options]
     * @returns {Promise<number>}
     */
    update(topic: string, change: (value: any) => any, { timeoutMs }?: {
        timeoutMs?: number;
    }): Promise<number>;
    /**
     * Have the engine do something; resolves to what comes of it.
     * @param {any} message
     * @returns {Promise<any>}
     */
    _ask(message: any): Promise<any>;
    /** Close the client: its subscriptions end, and what was not published yet is rejected. */
    close(): void;
    /**
     * Talk to an engine by a port from now on: it is told all that this client follows, and what it has not been asked yet.
     * @param {any} port
     * @param {string} lock the name of a lock that this page holds, empty if it cannot
     */
    attach(port: any, lock: string): void;
    /** The engine has forgotten this client, or has ended: what it was asked to publish may be applied, or not. */
    lose(): void;
    /**
     * @param {SoftstateError} error why there is no engine to talk to
     * @param {boolean} final whether there will be none
     */
    stop(error: SoftstateError, final: boolean): void;
    /** @param {string} type "jumped" or "online" */
    tell(type: string): void;
    /** @param {any} message */
    _post(message: any): void;
    /** @param {any} message */
    _read(message: any): void;
    /** @param {any} message */
    _update({ seq, anchor: [anchorSeq, anchorClock], clock, mode, position, error, because, handles }: any): void;
    /** @param {Mode} mode */
    _setMode(mode: Mode): void;
    /**
     * @param {Mode} mode
     * @param {SoftstateError} error
     */
    _over(mode: Mode, error: SoftstateError): void;
    /** @param {{number: number} & TokenRequest} message */
    _giveToken({ number, rejected, attempt }: {
        number: number;
    } & TokenRequest): Promise<void>;
}
/**
 * An error that softstate throws on purpose. Its message says what happened and what to do.
 *
 * `code` is a node's code (`conflict`, `denied`, …), or one of this client: `outcome_unknown` (a publish may have been
 * applied: read the topic), `client_closed`, `stale` (nothing young enough is known: `age` says how old it is).
 */
export class SoftstateError extends Error {
    /**
     * @param {string} code
     * @param {string} message
     * @param {Details} [details]
     */
    constructor(code: string, message: string, details?: Details);
    code: string;
    /** How long to wait before trying again, in milliseconds. */
    retryMs: number | null;
    /** The version that won a compare-and-set. */
    current: number | null;
    /** Where the store stands now. */
    position: Position | null;
    /** The check that failed, where one code stands for several. */
    why: string | null;
    /** Of `stale`: the age in seconds of what is known, Infinity if nothing can be proved. */
    age: number;
}
/**
 * Some topics and prefixes, followed until `close`. Iterate over it for changes, or listen for events:
 *
 * - `change` (`event.detail`: topic, version, value, deleted), `reset` (the store's history changed: a restored backup, a
 *   wiped store; forget what was shown, the values of the new history follow), `mode`, `age` (younger than before);
 * - `denied` (names that these credentials may not read), `refused` (one node refuses this client; it goes on with the
 *   others), `unreadable` (stored records that are damaged), `error` (what ended the client).
 *
 * Changes that are overtaken while the application is busy are never seen. Iterating throws `denied` once, when names
 * are refused, and what ended the client; when the handle is closed, it ends.
 */
export class Updates extends EventTarget {
    /**
     * @param {string[]} names
     * @param {boolean} narrow
     * @param {() => number} now
     * @param {() => void} close
     */
    constructor(names: string[], narrow: boolean, now: () => number, close: () => void);
    _inbox: Inbox;
    _now: () => number;
    _close: () => void;
    /** @type {Map<string, Change>} */
    _values: Map<string, Change>;
    /** @type {Position | null} where the store stood when an engine last forgot this tab, until the next tells */
    _before: Position | null;
    /** @type {Set<string>} topics whose value an engine that has forgotten this tab has yet to confirm */
    _doubtful: Set<string>;
    _asof: number;
    /** @type {string[]} */
    _denied: string[];
    _resetCount: number;
    /** @type {string[]} */
    _unreadable: string[];
    /** @type {SoftstateError | null} */
    _denial: SoftstateError | null;
    /** @type {SoftstateError | null} */
    _end: SoftstateError | null;
    _closed: boolean;
    /** @type {(() => void)[]} */
    _waiting: (() => void)[];
    /** The topics and prefixes this handle is on, without those that were denied. */
    get names(): string[];
    /** The names that the node refused, or that no longer fit into its limits. */
    get denied(): string[];
    /** How many times the store's history changed under this handle. */
    get resetCount(): number;
    /** The topics under this handle whose stored records are damaged, as far as is known: they have no age. */
    get unreadable(): string[];
    /**
     * How old all that is known here may be, in seconds, as of now: every change before that has been handed over. It is
     * Infinity until the first answer.
     * @returns {number}
     */
    get age(): number;
    /**
     * The newest known state of a topic, if it has a value.
     * @param {string} topic
     * @returns {Change | undefined}
     */
    get(topic: string): Change | undefined;
    /**
     * Every topic that has a value, with its newest known state.
     * @returns {Map<string, Change>}
     */
    snapshot(): Map<string, Change>;
    /**
     * Wait until all that is known here is at most `maxAge` seconds old (by default: of any finite age).
     * @param {number} [maxAge]
     * @returns {Promise<void>}
     */
    fresh(maxAge?: number): Promise<void>;
    /** Follow these names no more; iterations end. */
    close(): void;
    /**
     * Iterate over changes as above, all that are pending at once: lists of one change or more, of distinct topics.
     * @returns {AsyncIterableIterator<Change[]>}
     */
    batches(): AsyncIterableIterator<Change[]>;
    /** @returns {Promise<IteratorResult<Change, undefined>>} */
    _next(): Promise<IteratorResult<Change, undefined>>;
    /**
     * Wait for changes and take them; null once the handle is closed.
     * @param {number} most
     * @returns {Promise<Change[] | null>}
     */
    _take(most: number): Promise<Change[] | null>;
    /**
     * @param {InboxEvent[]} events
     * @param {number | null} asof since when all is known, by this page's clock; null: it is told later
     * @param {string[]} unreadable
     * @param {Position | null} [position] of the store, as far as the engine has heard
     */
    feed(events: InboxEvent[], asof: number | null, unreadable: string[], position?: Position | null): void;
    /**
     * The engine tells all that it knows again, but no deletions and resets: what it leaves out is gone once it tells an
     * age, and another history is a reset.
     * @param {Position | null} position where the store stood
     */
    doubt(position: Position | null): void;
    /** @param {number} revision */
    _gone(revision: number): {
        type: "change";
        topic: string;
        version: number;
        value: null;
        deleted: boolean;
    }[];
    /** @param {SoftstateError} error what ended the client */
    end(error: SoftstateError): void;
    /** @param {InboxEvent} event */
    _note(event: InboxEvent): void;
    /** @param {string[]} below what may be read instead */
    _deniedError(below: string[]): SoftstateError;
    /** @param {InboxEvent} event */
    _dispatch(event: InboxEvent): void;
    _throwDenial(): void;
    _throwIfOver(): void;
    _wait(): Promise<any>;
    _wake(): void;
    [Symbol.asyncIterator](): {
        next: () => Promise<IteratorResult<Change, undefined>>;
        return: () => Promise<{
            done: true;
            value: undefined;
        }>;
    };
}
/**
 * Connect to one or several nodes of one store; without `urls`, to the node that the page came from.
 *
 * It returns at once, and never fails because a node does: `client.mode` tells how it stands, `client.because` why.
 * Throws `invalid` for an argument that it cannot use.
 * @param {string | URL | (string | URL)[]} [urls]
 * @param {ConnectOptions} [options]
 * @returns {Client}
 */
export function connect(urls?: string | URL | (string | URL)[], options?: ConnectOptions): Client;
declare class Clock {
    /**
     * @param {() => number} steady milliseconds; browsers let it stand still during sleep
     * @param {() => number} wall
     */
    constructor(steady?: () => number, wall?: () => number);
    _steady: () => number;
    _wall: () => number;
    _slept: number;
    _lead: number;
    _jumped: boolean;
    /** @returns {number} */
    now(): number;
    /** Tell whether the host has slept since this was last asked. */
    jumped(): boolean;
}
/**
 * The inbox of a subscription: pending changes, at most one a topic, and what became of the client.
 *
 * A newer change takes the place of the older one of its topic, where it is. So memory is bounded by the number of
 * topics, however slowly the application reads, and however long a tab is frozen.
 */
/**
 * @typedef {({type: "change"} & Change)
 *   | {type: "reset", position: Position}
 *   | {type: "mode", mode: Mode}
 *   | {type: "refused", url: string, error: any}
 *   | {type: "unreadable", topics: string[]}
 *   | {type: "denied", names: string[], below: string[], silent: boolean}} InboxEvent `silent`: others take their place
 */
declare class Inbox {
    /**
     * @param {Iterable<string>} names
     * @param {boolean} [narrow] whether the names below a denied prefix that may be read take its place
     */
    constructor(names: Iterable<string>, narrow?: boolean);
    names: Set<string>;
    narrow: boolean;
    /** @type {Map<string, InboxEvent>} */
    _pending: Map<string, InboxEvent>;
    _resets: number;
    _resetCount: number;
    get size(): number;
    /** @returns {InboxEvent | undefined} the next event, taken out */
    take(): InboxEvent | undefined;
    /** @param {InboxEvent} event what comes behind all that is pending, or takes the place of what it makes obsolete */
    tell(event: InboxEvent): void;
    /** Drop all that is pending. */
    clear(): void;
    /**
     * Pending values are dropped: all of them follow again, or as deleted. Deletions stay, ahead of the reset: nothing
     * will say again that a topic is gone which the new history does not have either. Resets with nothing between them
     * become one.
     * @param {InboxEvent} reset
     */
    _reset(reset: InboxEvent): void;
    /** @param {string[]} topics */
    _unreadable(topics: string[]): void;
    /** @param {InboxEvent & {type: "denied"}} denied names: what is pending of them alone is dropped */
    _deny({ names, below, silent }: InboxEvent & {
        type: "denied";
    }): void;
}
export {};
