"""The JSON documents that runs leave in a store.

    runs/<run id>/manifest.json     manifest.Manifest
    runs/<run id>/promotion.json    champion.PromotionRecord
    champion/<dataset>/<n>.json     champion.LogEntry

This package is below the registry, which reads and writes the documents, because the HTML report also reads manifests.
"""
