"""engine/hooks"""
