"""The tokenizer's speed compared with every other installed library: `python -m fednano.bench tokenizer --help`.

Each contender runs in its own processes: a new one for each training and each cold start, and one warmed-up process for
the rest. All read the same files, use the same number of threads and take turns. A ratio is the contender's median time
÷ fednano's with the same pre-token pattern, or with `baseline` if fednano lacks that pattern.

`--json FILE` writes one object:

    options    the arguments
    machine    python, platform and cores
    corpus     texts, bytes and sha256 of the training text; texts_encoded and bytes_encoded of the encoded text
    versions   of each contender that took part; null if its package has none
    missing    for each library that is not installed, how to install it
    results    a list, one object for each row of the tables:
        work            train, encode, cold, decode or hostile
        input, bytes    "corpus" or the name of the hostile input, and its size
        contender, pattern, threads
        measurements    each repeat: "seconds", and the keys of `figures`
        median_s, megabytes_per_s    null after an error; MB are 10^6 bytes
        figures         further medians: for train peak_bytes (resident memory) and merges; for cold ready_s (import and
                        load), first_text_s (a short string after that), process_s (the whole process)
        ratio, baseline              median ÷ fednano's, and fednano's pattern; null if there is none
        speedup         this contender's median with one thread ÷ this one, if both were measured
        growth          this median ÷ that of the same input at half the size
        same_ids        whether the ids (decode: the bytes) equal fednano's with this pattern; null if not compared
        error           null, or the contender's last line, or that it exceeded `--timeout`
"""
