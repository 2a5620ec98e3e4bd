"""Speed of the tokenizer beside every peer that is installed: `python -m fednano.bench tokenizer --help`.

Each contender runs in processes of its own: a new one for each training and each cold start, one that stays and is
warmed once for the rest. All read the same files, have the same number of threads and take turns. A ratio is the
contender's median time over that of fednano with the same pre-token pattern, or with `baseline` where fednano lacks it.

`--json FILE` writes one object:

    options    the arguments
    machine    python, platform and cores
    corpus     texts, bytes and sha256 of what was trained on; texts_encoded and bytes_encoded of what was encoded
    versions   of each contender that took part; null if its package tells none
    missing    for each peer that is not installed, how to have it
    results    a list, one object for each row of the tables:
        work            train, encode, cold, decode or hostile
        input, bytes    "corpus" or the name of the hostile input, and its size
        contender, pattern, threads
        measurements    each repeat: "seconds", and what `figures` holds
        median_s, megabytes_per_s    null after an error; MB are 10^6 bytes
        figures         medians of more: for train peak_bytes (resident memory) and merges; for cold ready_s (import and
                        load), first_text_s (a short string after that), process_s (the process, seen from outside)
        ratio, baseline              median over fednano's, and the pattern that fednano had; null if there is none
        speedup         this contender's median with one thread over this one, where both were measured
        growth          this median over that of the same input at half the size
        same_ids        whether the ids (decode: the bytes) are those of fednano with this pattern; null if not compared
        error           null, or the last line that the contender left, or that it exceeded `--timeout`
"""
